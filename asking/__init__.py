"""Questions about the user's own documents: reading them, finding passages, answering, quoting."""
