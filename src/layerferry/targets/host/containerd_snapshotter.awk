# The options for the snapshotter that most images are unpacked with, where it is not what ctr has by itself: the label of a
# config tells. The input: `ctr content ls`. ctr 2 leaves unpacking to a service that knows no other (seen: 2.1.9).
{
  for (text = $0; match(text, /gc.ref.snapshot[.][a-z0-9-]+=/); text = substr(text, RSTART + RLENGTH)) {
    one = substr(text, RSTART + 16, RLENGTH - 17)
    if (++count[one] > most) { most = count[one]; best = one }
  }
}
END { if (most && best != "overlayfs") print (major < 2 ? "" : "--local ") "--snapshotter " best }
