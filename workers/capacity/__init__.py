"""`rsafe plan`: how many workers, GPUs and partitions, how much memory and disk, at what price.

figures.yaml   what was measured, each figure with the file that it comes from
figures.py     reads it
demand.py      what is asked for, checked
formulas.py    from both to a plan; docs/operations/capacity.md explains each formula
words.py       the plan as a table, as JSON and as values for the chart
"""
