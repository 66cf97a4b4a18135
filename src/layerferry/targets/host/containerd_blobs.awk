# Lines "blob DIFFID DIGEST SIZE MEDIATYPE" out of what was sifted and the manifests that were chosen of it.
function get(key) {
  if (!match(part[i], "\"" key "\":\"?[^,\"]+")) return ""
  value = substr(part[i], RSTART + length(key) + 3, RLENGTH - length(key) - 3)
  sub(/^"/, "", value)
  return value
}
$1 == "layer" { of[$2] = $3; next }
$1 != "image" { text = text $0 }
END {
  gsub(/[ \t\r]/, "", text)
  n = split(text, part, /[{}]/)
  for (i = 1; i <= n; i++) if ((blob = get("digest")) in of) {
    print "blob", of[blob], blob, get("size"), get("mediaType")
    delete of[blob]
  }
}
