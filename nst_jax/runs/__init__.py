"""Work directories: what is written, and how a run resumes."""
