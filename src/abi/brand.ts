/** Numbers and bytes of the kernel that must not be confused. Only a decoder or the owner casts. */
declare const brand: unique symbol
type Brand<T, B extends string> = T & { readonly [brand]: B }

/** A thread id in our own pid namespace; 0 means that the thread is not visible there. */
export type Tid = Brand<number, 'Tid'>
/** 1 to 4095: an answer beyond that makes the call *return* the number. */
export type Errno = Brand<number, 'Errno'>
export type Mode = Brand<number, 'Mode'>
/** A device number in the kernel's 32-bit user encoding, see `makedev()`. */
export type Dev = Brand<number, 'Dev'>
/** The same with the type of a node, see `typedDev()`. */
export type TypedDev = Brand<number, 'TypedDev'>
/** A path is bytes with a final NUL: never a JavaScript string, since koffi and UTF-8 change bytes such as E9. */
export type PathBytes = Brand<Uint8Array, 'PathBytes'>
/** A user or group id of the host. */
export type HostId = Brand<number, 'HostId'>
