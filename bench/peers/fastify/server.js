// Fastify and postgres.js: a process for each core, one statement for each request.
//
// Written as the guides of both write it: schemas that check what comes in and write what goes out, node's cluster, and
// tagged templates, which postgres.js prepares and keeps on each connection of its pool. Its arguments are the host, the
// port and the number of processes. JavaScript's dates have milliseconds, so timestamps lose three digits.
import cluster from 'node:cluster'
import process from 'node:process'

import Fastify from 'fastify'
import postgres from 'postgres'

const item = {
  type: 'object',
  properties: {
    id: { type: 'integer' },
    name: { type: 'string' },
    price: { type: 'number' },
    in_stock: { type: 'boolean' },
    owner_id: { type: ['integer', 'null'] },
    version: { type: 'integer' },
    created_at: { type: 'string', format: 'date-time' },
    updated_at: { type: 'string', format: 'date-time' }
  }
}
const items = { type: 'array', items: item }
const itemCreate = {
  type: 'object',
  required: ['name', 'price'],
  properties: {
    name: { type: 'string', minLength: 1, maxLength: 255 },
    price: { type: 'number', minimum: 0 },
    in_stock: { type: 'boolean', default: true }
  }
}
const oneOrMore = { if: { type: 'array' }, then: { type: 'array', items: itemCreate }, else: itemCreate }
const pageQuery = {
  type: 'object',
  properties: {
    ids: { type: 'string' },
    limit: { type: 'integer', minimum: 1, maximum: 1000, default: 100 },
    order: { type: 'string', enum: ['id', 'price', 'name'], default: 'id' },
    after_id: { type: 'integer' },
    after_price: { type: 'number' },
    after_name: { type: 'string' }
  }
}
const idParams = { type: 'object', properties: { id: { type: 'integer' } } }

function serve (host, port) {
  // Ids are below 2 ** 53, which a number of JavaScript takes.
  const bigint = { to: 20, from: [20], parse: Number, serialize: String }
  const sql = postgres(process.env.DATABASE_URL.replace('+asyncpg', ''), { types: { bigint } })
  const columns = sql`id, name, price, in_stock, owner_id, version, created_at, updated_at`
  const fastify = Fastify()

  function page ({ limit, order, after_id: afterId, after_price: afterPrice, after_name: afterName }) {
    const first = afterId === undefined
    if (order === 'price') {
      return first
        ? sql`SELECT ${columns} FROM items ORDER BY price, id LIMIT ${limit}`
        : sql`SELECT ${columns} FROM items WHERE (price, id) > (${afterPrice}, ${afterId})
              ORDER BY price, id LIMIT ${limit}`
    }
    if (order === 'name') {
      return first
        ? sql`SELECT ${columns} FROM items ORDER BY name, id LIMIT ${limit}`
        : sql`SELECT ${columns} FROM items WHERE (name, id) > (${afterName}, ${afterId})
              ORDER BY name, id LIMIT ${limit}`
    }
    return first
      ? sql`SELECT ${columns} FROM items ORDER BY id LIMIT ${limit}`
      : sql`SELECT ${columns} FROM items WHERE id > ${afterId} ORDER BY id LIMIT ${limit}`
  }

  async function batch (ids) {
    const wanted = ids.split(',').map(Number)
    const rows = await sql`SELECT ${columns} FROM items WHERE id = ANY(${wanted})`
    const found = new Map(rows.map(row => [row.id, row]))
    return wanted.filter(id => found.has(id)).map(id => found.get(id))
  }

  fastify.get('/items', { schema: { querystring: pageQuery, response: { 200: items } } }, request =>
    request.query.ids === undefined ? page(request.query) : batch(request.query.ids)
  )

  fastify.post('/items', { schema: { body: oneOrMore, response: { 201: item } } }, async (request, reply) => {
    reply.code(201)
    if (!Array.isArray(request.body)) {
      const { name, price, in_stock: inStock } = request.body
      const [row] = await sql`INSERT INTO items (name, price, in_stock) VALUES (${name}, ${price}, ${inStock})
                              RETURNING ${columns}`
      return row
    }
    const rows = await sql`INSERT INTO items ${sql(request.body, 'name', 'price', 'in_stock')} RETURNING ${columns}`
    rows.sort((one, other) => one.id - other.id)
    return reply.serializer(reply.compileSerializationSchema(items)).type('application/json').send(rows)
  })

  fastify.get('/items/:id', { schema: { params: idParams, response: { 200: item } } }, async (request, reply) => {
    const [row] = await sql`SELECT ${columns} FROM items WHERE id = ${request.params.id}`
    return row ?? reply.code(404).send({ message: 'Item not found' })
  })

  const put = { schema: { params: idParams, body: itemCreate, response: { 200: item } } }
  fastify.put('/items/:id', put, async (request, reply) => {
    const { name, price, in_stock: inStock } = request.body
    const [row] = await sql`UPDATE items SET name = ${name}, price = ${price}, in_stock = ${inStock},
                            version = version + 1, updated_at = now() WHERE id = ${request.params.id}
                            RETURNING ${columns}`
    return row ?? reply.code(404).send({ message: 'Item not found' })
  })

  process.on('SIGTERM', async () => {
    await fastify.close()
    await sql.end()
    process.exit()
  })
  return fastify.listen({ host, port: Number(port) })
}

const [host, port, workers] = process.argv.slice(2)
if (cluster.isPrimary) {
  process.on('SIGTERM', () => Object.values(cluster.workers).forEach(worker => worker.process.kill('SIGTERM')))
  cluster.on('exit', () => Object.keys(cluster.workers).length || process.exit())
  for (let number = 0; number < Number(workers); number++) cluster.fork()
} else {
  await serve(host, port)
}
