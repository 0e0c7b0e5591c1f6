/** How many listeners and containers one engine can hold; more are refused at registration. */
export const LISTENERS = 4096
export const CONTAINERS = 1024
