/** Says who made a call, as far as it is known: ` by mknod, pid 12`. The name is escaped already. */
export function byWhom({ comm, pid }: { readonly comm?: string; readonly pid?: number }): string {
  const known = [...(comm ? [comm] : []), ...(pid === undefined ? [] : [`pid ${pid}`])]
  return known.length === 0 ? '' : `  by ${known.join(', ')}`
}
