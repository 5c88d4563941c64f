import stoppable from './stoppable-cjs.ts'

export { stoppable, stoppable as default }
export type StoppableServer = stoppable.StoppableServer
export type WithStop = stoppable.WithStop
