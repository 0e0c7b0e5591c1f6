/** What follows the options in `intercede run --help`. */
export const RUN_HELP = `
Signals reach the command. SIGINT and SIGTERM, sent a second time, or not obeyed for the time of --stop-timeout, kill the
container; so does whatever ends intercede itself.

Exit status:
  that of the command, or 128 + N if signal N ended it (143: SIGTERM, 137: SIGKILL, or it was killed as above)
  2    the command line means nothing
  125  intercede could not start it, or there was no room for its output
  126  the command cannot be executed
  127  there is no such command

Examples:
  intercede run -- id                               the host's files, read by nobody; what is written is thrown away
  intercede run -c mknod --explain -- sh            says at once why a call was refused
  intercede run --bind /srv/src:ro -- make -C /srv/src check
  intercede run --bind /srv/conf:/etc/app.conf:ro -- app
  install -d -m 700 /srv/trees                      keeps users of the host out of what is below
  mkdir /srv/trees/trixie                           keeps what is made, with the owners as seen inside:
  intercede run -c mknod --net host --bind /srv/trees/trixie:idmap -- debootstrap --variant=minbase trixie /srv/trees/trixie
  intercede run --rootfs /srv/trees/trixie -- bash  starts it`
