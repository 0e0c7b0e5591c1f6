/** linux/keyctl.h */
export const KEYCTL_JOIN_SESSION_KEYRING = 1
export const KEYCTL_CHOWN = 4
export const KEY_SPEC_SESSION_KEYRING = -3
