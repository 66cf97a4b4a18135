# Of images in docker's JSON, as `what` says: names: lines "ID ", "ID NAME", "ID NAME"...; layers: "ID DIFFID DIFFID...".
# An image's object is no other's value, and has but numbers before its Id: what else has an Id may be anybody's label.
BEGIN { RS = "{" }
function list(key, n) {
  match($0, "\"" key "\":\\[[^]]*")
  text = substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4)
  gsub(/"/, "", text)
  return split(text, item, ",")
}
before !~ /:$/ && match($0, /^("[A-Za-z]+":-?[0-9]+,)*"Id":"sha256:[0-9a-f]+"/) {
  id = substr($0, RLENGTH - 71, 71)
  if (what == "names") print id " "
}
what == "names" && /"RepoTags":\[/ { for (n = list("RepoTags"); n; n--) print id, item[n] }
what == "layers" && before ~ /"RootFS":$/ && /^"Type":"layers"/ {
  count = list("Layers")
  line = id
  for (n = 1; n <= count; n++) line = line " " item[n]
  print line
}
{ before = $0 }
