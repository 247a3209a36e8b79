"""The whole path on one machine, for a newcomer's first look.

traffic   conversations that the demo publishes
board     the live table and the summary
run       stack, topics, worker, traffic, table, and a clean end

story         the raid, as data; story_check: whether it went as told
story_site    topics, a worker, conduct and commands; story_topics: what came onto the topics
story_board   what is shown of it
story_run     scene after scene
"""
