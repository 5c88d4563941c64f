/**
 * One turn of the event loop, with a poll for I/O in it: on return, what the kernel held when the turn began has been read.
 * Everything that closes a connection does so right after such a turn, never from a timer: when the loop was blocked, a
 * timer fires before the bytes that have been waiting are read.
 */
export function turn(): Promise<void> {
  return new Promise(resolve => setImmediate(resolve))
}
