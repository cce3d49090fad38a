"""The rating survey of the report's section 3: serve it, keep its ratings, analyze them.

People rate real and generated photos from 1 to 5 without knowing which is which.
"""
