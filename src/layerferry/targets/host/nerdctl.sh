# shellcheck shell=sh disable=SC2034,SC2086,SC2154 # parts share variables, and $cli is words
# The way to a containerd that `ctr` does not reach, a rootless one: nerdctl, in docker's words where it has them. Of images
# it shows more than docker's in its native mode (containerd/nerdctl, pkg/inspecttypes/native/image.go).

nerdctl_probe() { cli_probe; }

nerdctl_info() { cli_info; }

# It lists what is whole (pkg/cmd/image/list.go). Its digest is that of a manifest or an index.
nerdctl_list() { exec $cli image ls --format '{{.Digest}} {{.Name}}'; }

# It shows an image under each of its names, and gives all that it is asked for 5 s (pkg/cmd/image/inspect.go).
native() { xargs -n 20 $cli image inspect --mode native --format "$1" 2>/dev/null | uniq; }

nerdctl_layers() { native '{{.Image.Target.Digest}}{{range .ImageConfig.RootFS.DiffIDs}} {{.}}{{end}}'; }

nerdctl_show() {
  for name; do
    case $name in sha256:*) say "$name" ;; *) say "$name" | nerdctl_layers ;; esac
  done
}

nerdctl_load() { cli_load; }

nerdctl_tag() { cli_tag "$@"; }

nerdctl_remove() { cli_remove "$@"; }

# It tells its blobs.
nerdctl_push() { return 1; }

# content content ls | content get MANIFEST: what ctr says so, of the images in $ids; of a crowd, the newest.
# shellcheck disable=SC2016
content() {
  case $2 in
    ls)
      [ -z "$ids" ] || say "$ids" | cut -d ' ' -f 1 | uniq | head -n 200 | native '{{range $n,$l:=.Manifest.Layers}}{{.Digest}} {{.Size}} {{.MediaType}} containerd.io/uncompressed={{index $.ImageConfig.RootFS.DiffIDs $n}}
{{end}}{{.ImageConfigDesc.Digest}}
{{.ManifestDesc.Digest}} gc.ref.content.config={{.ImageConfigDesc.Digest}}{{range .Manifest.Layers}} gc.ref.content.l.={{.Digest}}{{end}}{{with .IndexDesc}}
{{.Digest}} gc.ref.content={{$.ManifestDesc.Digest}}{{end}}' ;;
    get) say "$held" | awk '/ con/ { print "{\"digest\":\"" $1 "\",\"size\":" $2 ",\"mediaType\":\"" $3 "\"}" }' ;;
  esac
}
