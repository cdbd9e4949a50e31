// Whether Flowise 3 answers and has its first user. Until there is one it refuses every key; what was there before
// becomes that user's.
const at = `http://127.0.0.1:${process.env.PORT}/api/v1`

const ask = async (path, body) => {
    const method = body ? 'POST' : 'GET'
    const headers = { 'content-type': 'application/json' }
    return fetch(at + path, { method, headers, body: body && JSON.stringify(body) })
}

try {
    const ping = await ask('/ping')
    if (!ping.ok) throw new Error(`ping: ${ping.status}`)
    const { FLOWISE_USERNAME: name, FLOWISE_EMAIL: email, FLOWISE_PASSWORD: credential } = process.env
    const made = await ask('/account/register', { user: { name, email, credential } })
    const said = await made.text()
    // There is one already.
    if (!made.ok && !said.includes('only have one organization')) throw new Error(`register: ${made.status} ${said}`)
} catch (error) {
    console.error(String(error.cause ?? error))
    process.exit(1)
}
