/** The name of a thread, which is escaped already. It is quoted if it could be taken for more than a name. */
const shownComm = (comm: string): string => (/^[\w.+:@/-]+$/.test(comm) ? comm : `"${comm.replaceAll('"', '\\"')}"`)

/** Says who made a call, as far as it is known: ` by mknod, pid 12`. */
export function byWhom({ comm, pid }: { readonly comm?: string; readonly pid?: number }): string {
  const known = [...(comm ? [shownComm(comm)] : []), ...(pid === undefined ? [] : [`pid ${pid}`])]
  return known.length === 0 ? '' : `  by ${known.join(', ')}`
}
