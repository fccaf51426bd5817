// What a workflow's JavaScript action does with GitHub's own clients, against Weir's job API. Run by the tests of runner/local.
import { DefaultArtifactClient } from '@actions/artifact'
import * as cache from '@actions/cache'
import assert from 'node:assert/strict'
import fs from 'node:fs'
import path from 'node:path'

const work = process.env.GITHUB_WORKSPACE
const write = (name, data) => { fs.mkdirSync(path.dirname(path.join(work, name)), { recursive: true }); fs.writeFileSync(path.join(work, name), data) }
const client = new DefaultArtifactClient()
const big = Buffer.alloc(20 << 20, 'weir ')
for (let i = 0; i < big.length; i += 97) big[i] = i % 251

if (process.env.INPUT_STAGE === 'first') {
  write('out/a.txt', 'one\n'); write('out/deep/b.txt', 'two\n'); write('out/big.bin', big)
  const up = await client.uploadArtifact('made', ['out/a.txt', 'out/deep/b.txt', 'out/big.bin'].map(f => path.join(work, f)), path.join(work, 'out'))
  assert.ok(up.id > 0 && up.size > 0)
  await assert.rejects(client.uploadArtifact('made', [path.join(work, 'out/a.txt')], path.join(work, 'out')), /already/)
  const { artifacts } = await client.listArtifacts()
  assert.deepEqual(artifacts.map(a => a.name).sort(), ['builtin', 'made'])
  const { artifact } = await client.getArtifact('made')
  const { downloadPath } = await client.downloadArtifact(artifact.id, { path: path.join(work, 'back') })
  assert.equal(fs.readFileSync(path.join(downloadPath, 'deep/b.txt'), 'utf8'), 'two\n')
  assert.ok(fs.readFileSync(path.join(downloadPath, 'big.bin')).equals(big))
  const other = (await client.getArtifact('builtin')).artifact
  await client.downloadArtifact(other.id, { path: path.join(work, 'back2') })
  assert.equal(fs.readFileSync(path.join(work, 'back2/kept.txt'), 'utf8'), 'by a built-in\n')

  assert.ok(cache.isFeatureAvailable())
  write('deps/x', 'cached\n'); write('deps/big.bin', big)
  assert.equal(await cache.restoreCache(['deps'], 'key-1', ['key-']), undefined)
  assert.ok(await cache.saveCache(['deps'], 'key-1', { uploadChunkSize: 4 << 20 }) > 0)
  await cache.saveCache(['deps'], 'key-1') // taken: it says so and goes on
  fs.rmSync(path.join(work, 'deps'), { recursive: true })
  assert.equal(await cache.restoreCache(['deps'], 'key-2', ['nothing', 'key-']), 'key-1')
  assert.equal(fs.readFileSync(path.join(work, 'deps/x'), 'utf8'), 'cached\n')
  assert.ok(fs.readFileSync(path.join(work, 'deps/big.bin')).equals(big))
  assert.equal(await cache.restoreCache(['other'], 'key-1'), undefined) // other paths are another version
  assert.equal(await cache.restoreCache(['deps'], 'key-1', [], { lookupOnly: true }), 'key-1')
}
console.log('the official clients are content')
