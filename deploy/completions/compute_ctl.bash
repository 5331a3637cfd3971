# Completions for compute_ctl in bash, from the installed program.
eval "$(compute_ctl completions bash)"
