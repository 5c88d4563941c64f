// What these services keep their orders in: it answers after 200 ms, and after its end not at all.
import { setTimeout as sleep } from 'node:timers/promises'

const orders = []
let closed = false

export const database = {
  async ping() {
    if (closed) throw new Error('the database is closed')
  },
  async insert(order) {
    await sleep(200)
    await this.ping()
    return orders.push(order)
  },
  async close() {
    closed = true
    console.log(`database: closed with ${orders.length} orders`)
  },
}
