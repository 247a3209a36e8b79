"""The data of a training run: from labelled conversations of many sources to rows under policies.

rows          what a row is; its files
"""
