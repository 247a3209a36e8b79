"""The data of a training run: from labelled conversations of many sources to rows under policies.

build         the whole way, read it first
settings      what a recipe sets

sources       JSON lines → raw rows                      collect       sources → drafts of rows
mapping       own labels and codes → a policy's          generated     rows of the generator
policies      shipped policies, overlaps, wordings       reviewed      policies of reviews
groups        splits that no group straddles             leaks         near-duplicates
perturbation  changes of a policy                        same_meaning  variants that keep labels
vary          which rows are changed; twins              rationales    reasoning under changed codes
lengths       limits of prompt and answer                balance       safe and unsafe in equal numbers
rows          what a row is; its files                   data_card     what the set is made of
drafts        what the steps hand on                     yaml_file, errors

mappings/ and policies/ hold the shipped ones.
"""
