# Of images in docker's JSON, as `what` says: names: lines "ID ", "ID NAME", "ID NAME"...; layers: "ID DIFFID DIFFID...".
BEGIN { RS = "{" }
function list(key, n) {
  match($0, "\"" key "\":\\[[^]]*")
  text = substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 4)
  gsub(/"/, "", text)
  return split(text, item, ",")
}
match($0, /"Id":"sha256:[0-9a-f]+"/) && RLENGTH == 78 {
  id = substr($0, RSTART + 6, 71)
  if (what == "names") print id " "
}
what == "names" && /"RepoTags":\[/ { for (n = list("RepoTags"); n; n--) print id, item[n] }
what == "layers" && /"Type":"layers"/ {
  count = list("Layers")
  line = id
  for (n = 1; n <= count; n++) line = line " " item[n]
  print line
}
