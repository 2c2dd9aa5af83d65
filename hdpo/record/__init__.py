"""What is kept: the run folder, its files, what a running job tells, and several processes that write as one."""
