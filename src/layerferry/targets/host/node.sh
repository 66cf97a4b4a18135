# shellcheck shell=sh disable=SC2034,SC2154,SC2329 # parts share variables; the other parts call what is here
# A host that runs what follows a push to a registry. It may have no engine, or one that its user may not use.

# inventory: greets, and hears the ask, which is of no image.
inventory() {
  mark wait "$self"
  while read -r verb _ && [ "$verb" != engine ]; do :; done
  mark ask
  read_ask
  stage='done'
  say 'engine none'
  say 'store chain'
  say "platform linux/$(uname -m)"
  say 'capability alive idle'
  say end
}
