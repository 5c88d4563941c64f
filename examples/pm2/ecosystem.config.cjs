// pm2 start ecosystem.config.cjs, then `pm2 reload app` for each deploy. The tests run this very file.
module.exports = {
  apps: [{
    name: 'app',
    script: 'app.mjs',
    exec_mode: 'cluster', // pm2 holds the port: no connection is refused while a process is replaced
    instances: 2,
    wait_ready: true, // the new process says process.send('ready') before the old one is stopped …
    listen_timeout: 10_000, // … or after so long the old one is stopped all the same, ready or not
    kill_timeout: 30_000, // more than deadlineMs of the app (25 000): SIGKILL (after 1.6 s by default) would cut its drain
    shutdown_with_message: true, // `pm2 stop` and `pm2 restart` send a message. `pm2 reload` sends SIGINT all the same (pm2 7.0.4)
  }],
}
