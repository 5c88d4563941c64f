import express from 'express'
import { lameduck } from 'lameduck/express'
import { database } from './database.mjs'

const app = express()
const { server, duck } = lameduck(app, {
  logger: console,
  health: { checks: { database: () => database.ping() } },
})
duck.onDrain('database', () => database.close())

app.use(express.json())
app.get('/', (req, res) => res.send('hello\n'))
app.post('/orders', async (req, res) => {
  const number = await database.insert(req.body)
  res.status(201).send(`order ${number}\n`)
})
server.listen(process.env.PORT ?? 3000)
