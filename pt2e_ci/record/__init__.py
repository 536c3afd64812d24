"""What a run says: the records of a report, the words for how a case ends, and what is known of it.

Nothing here imports torch.
"""
