GRANT pg_monitor TO {privileged} WITH ADMIN OPTION
