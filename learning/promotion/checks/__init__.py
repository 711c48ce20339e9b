"""What a policy can require, one check a file; the table is in `learning.promotion.running`."""
