/** Seconds from the request to end until the container is killed, as of podman. */
export const STOP_SECONDS = 10
