#!/bin/sh
# What runs on a host after a push, as `--then-file` sends it: app:latest in place of what ran. If it does not last for
# two seconds, the job ends with 8, and `layerferry rollback deploy@host app --then-file start.sh` is the way back.
set -eu
docker rm --force app > /dev/null 2>&1 || true
docker run --detach --name app --restart unless-stopped --publish 80:8080 app:latest
sleep 2
[ "$(docker inspect --format '{{.State.Status}} {{.RestartCount}}' app)" = 'running 0' ] || {
  docker logs --tail 20 app
  exit 1
}
