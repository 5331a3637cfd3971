# Completions for compute_ctl in fish, from the installed program.
compute_ctl completions fish | source
