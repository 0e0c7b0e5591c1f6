/** linux/prctl.h */
export const PR_SET_PDEATHSIG = 1
export const PR_CAPBSET_READ = 23
export const PR_CAPBSET_DROP = 24
export const PR_SET_SECUREBITS = 28
export const PR_SET_NO_NEW_PRIVS = 38
export const PR_GET_NO_NEW_PRIVS = 39

/** linux/securebits.h: ids change without the capabilities. */
export const SECBIT_NO_SETUID_FIXUP = 4
