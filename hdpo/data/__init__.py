"""Problems and prompts: from a file, the hub or the bundled sets to what the student and the teacher read."""
