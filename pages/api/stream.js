export default async function handler(_req, res) {
  for (let i = 0; i < 5; i++) {
    await new Promise(resolve => setTimeout(resolve, 200))
    res.write(String(i))
  }
  res.end()
}
