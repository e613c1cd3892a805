"""What people and scheduled jobs do with sessions: rotate, log in, seed, examine, report."""
