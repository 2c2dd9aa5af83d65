"""Who does it, and when: the job table, the processes that take jobs, and one attempt at a run folder."""
