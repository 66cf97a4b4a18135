# shellcheck shell=sh disable=SC2034 # parts share variables
# What a command of the user's finds as its environment: what the login had. It goes first, where a push is followed by one.
login=$(export -p)
