// `lameduck run` with its defaults, told by IPC to reload.
const { main, script, workers, execArgv } = JSON.parse(process.env.HOST)
const { supervise } = await import(main)
const supervisor = supervise({ script, workers, execArgv })

// When all are ready it says so itself, as a process manager above it would expect.
process.on('message', async () => {
  const { outcome, reason } = await supervisor.reload()
  process.send({ killed: false, failure: outcome === 'reloaded' ? undefined : `${outcome}: ${reason}` })
})
