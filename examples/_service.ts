/** The service of `npm start`: the routes of a small shop. Nothing in here knows of drains. */
import { setTimeout as sleep } from 'node:timers/promises'
import express, { type Router } from 'express'

interface Order {
  id: string
  note: string
}

export function shop(): Router {
  const orders = new Map<string, Order>()
  const routes = express.Router()

  routes.get('/products/:id', (req, res) => {
    res.json({ id: req.params.id, name: 'rubber duck', cents: 499 })
  })

  // As long as a payment provider and a database take.
  routes.post('/orders/:id', express.text(), async (req, res) => {
    await sleep(15 + Math.random() * 20)
    const order = { id: req.params.id, note: String(req.body) }
    orders.set(order.id, order)
    res.status(201).json(order)
  })

  routes.get('/reports/:id', async (req, res) => {
    await sleep(400)
    res.json({ id: req.params.id, orders: orders.size })
  })

  return routes
}
