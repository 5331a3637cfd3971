GRANT pg_signal_backend TO {privileged} WITH ADMIN OPTION
