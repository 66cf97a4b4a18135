# Of all that containerd holds, whose list grows with the host: "layer BLOB DIFFID" for each blob that was asked for, and
# "image MANIFEST CONFIG WHOLE ROOT..." for a few images that hold as many of them as possible, or may be one that was
# asked for. A blob's label tells its diff ID, a plain tar is its own; other labels tell what keeps what from the GC.
# The input: the asks, a line "ID DIFFID..." each; "end"; `ctr content ls`.
$1 == "end" { listing = 1; next }
!listing { if (NF) asked[$1]; for (i = 2; i <= NF; i++) wanted[$i]; next }
{
  here[$1]; diff = $1
  if (match($0, /containerd.io\/uncompressed=sha256:[0-9a-f]+/)) diff = substr($0, RSTART + 27, RLENGTH - 27)
  if (diff in wanted) { of[$1] = diff; print "layer", $1, diff }
  for (text = $0; match(text, /gc.ref.content[.a-z0-9]*=sha256:[0-9a-f]+/); text = substr(text, RSTART + RLENGTH)) {
    split(substr(text, RSTART, RLENGTH), ref, "=")
    if (ref[1] ~ /config$/) config[$1] = ref[2]
    else if (ref[1] ~ /[.]l[.]/) layers[$1] = layers[$1] " " ref[2]
    else roots[ref[2]] = roots[ref[2]] " " $1
  }
}
function tell(manifest, n, blob) {
  whole = config[manifest] in here
  for (n = split(layers[manifest], blob, " "); n; n--) { if (!(blob[n] in here)) whole = 0; delete wanted[of[blob[n]]] }
  print "image", manifest, config[manifest], whole, manifest roots[manifest]
  delete config[manifest]
}
END {
  for (m in config) {
    same = m in asked || config[m] in asked
    for (n = split(roots[m], root, " "); n; n--) if (root[n] in asked) same = 1
    if (same) twin[m]
  }
  for (m in twin) tell(m)
  for (round = 0; round < 8; round++) {
    most = 0
    for (m in config) {
      count = 0
      for (n = split(layers[m], blob, " "); n; n--) if (of[blob[n]] in wanted) count++
      if (count > most) { most = count; best = m }
    }
    if (!most) exit
    tell(best)
  }
}
