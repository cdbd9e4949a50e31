// Gives what belongs to no workspace to the one there is. Flowise 2 knows of none: what it writes while Flowise 3 already
// has its first user, before the switch or after a roll-back, Flowise 3 would never show.
import { createRequire } from 'node:module'

const require = createRequire(import.meta.url)
const quoted = (name) => `"${name.replaceAll('"', '""')}"`

const sqlite = async () => {
    const { Database } = require('sqlite3')
    const db = new Database(`${process.env.DATABASE_PATH}/database.sqlite`)
    const run = (sql) =>
        new Promise((done, failed) => db.all(sql, (error, rows) => (error ? failed(error) : done(rows))))
    await run('PRAGMA busy_timeout = 10000')
    const tables = `SELECT m.name FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table' AND c.name = 'workspaceId'`
    const changed = async (sql) => (await run(sql), (await run('SELECT changes() AS n'))[0].n)
    return { run, tables, changed, end: () => db.close() }
}

const postgres = async () => {
    const { Client } = require('pg')
    const { DATABASE_HOST: host, DATABASE_PORT: port, DATABASE_NAME: database } = process.env
    const { DATABASE_USER: user, DATABASE_PASSWORD: password } = process.env
    const db = new Client({ host, port: Number(port), database, user, password })
    await db.connect()
    const run = async (sql) => (await db.query(sql)).rows
    const tables = `SELECT table_name AS name FROM information_schema.columns WHERE table_schema = 'public' AND column_name = 'workspaceId'`
    const changed = async (sql) => (await db.query(sql)).rowCount
    return { run, tables, changed, end: () => db.end() }
}

const db = await (process.env.DATABASE_TYPE === 'postgres' ? postgres() : sqlite())
const workspaces = await db.run('SELECT id FROM workspace')
// With several nobody could tell whose it is; with none there is no user yet.
if (workspaces.length === 1) {
    for (const { name } of await db.run(db.tables)) {
        const whose = `SELECT id FROM workspace`
        const adopted = await db.changed(`UPDATE ${quoted(name)} SET "workspaceId" = (${whose}) WHERE "workspaceId" IS NULL`)
        if (adopted) console.log(`${name}: ${adopted} now belong to the workspace`)
    }
}
await db.end()
