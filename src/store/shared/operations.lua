-- Every operation that reads and writes as one. KEYS[1] is the prefix of all keys, which has a hash tag: in a cluster they are on
-- one node. ARGV[1] names the operation, the rest is its own.
--
-- auth:ID          what a user allowed: client, subject, scopes, resource, made (when), expires, code (digest)
-- auths:USER CLIENT  their ids by expiry
-- code:DIGEST      auth, redirect, challenge, expires, used
-- refresh:DIGEST   auth, expires, used, successor
-- access:DIGEST    id, auth, client, subject, scopes, audience, issued, expires
-- access_id:ID     the digest
-- until:all, until:client:ID, until:user:NAME   what was made until then is dead
-- session:DIGEST   user, proof, made, expires
-- events           what every gateway has to hear of, numbered by events:last; events:expiry has their ends
local prefix = KEYS[1]
local call = redis.call
-- Clocks differ: a key lives a little longer than what it is about, which is judged by its own times.
local SLACK = 60

local function key(name) return prefix .. name end

local function live(name, seconds)
  call('EXPIRE', key(name), math.max(1, math.ceil(seconds)) + SLACK)
end

local function dead(made, client, user)
  local names = { 'until:all' }
  if client then table.insert(names, 'until:client:' .. client) end
  if user then table.insert(names, 'until:user:' .. user) end
  for _, name in ipairs(names) do
    local at = call('GET', key(name))
    if at and tonumber(made) <= tonumber(at) then return true end
  end
  return false
end

-- An authorization that is alive: client, subject, scopes, resource, made.
local function authorization(id)
  local found = call('HMGET', key('auth:' .. id), 'client', 'subject', 'scopes', 'resource', 'made')
  if not found[1] or dead(found[5], found[1], found[2]) then return nil end
  return found
end

-- Leaves word for every gateway, stamped by this server's clock.
local function note(kind, value, event)
  local number = call('INCR', key('events:last'))
  local time = call('TIME')
  local ms = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
  call('XADD', key('events'), number .. '-0', 'kind', kind, 'value', value, 'at', event.at, 'expires', event.expires,
    'issuer', event.issuer, 'ms', ms)
  call('ZADD', key('events:expiry'), event.expires, number)
  return number
end

local function finish(id, event)
  call('DEL', key('auth:' .. id))
  note('authorization', id, event)
end

local function put_access(access, now)
  local name = 'access:' .. access.digest
  call('HSET', key(name), 'id', access.id, 'client', access.client, 'subject', access.subject, 'scopes', access.scopes,
    'audience', access.audience, 'issued', access.issued, 'expires', access.expires)
  if access.auth then call('HSET', key(name), 'auth', access.auth) end
  live(name, access.expires - now)
  call('SET', key('access_id:' .. access.id), access.digest)
  live('access_id:' .. access.id, access.expires - now)
end

-- Stores what a use gives, and lets the authorization live as long as the last of it.
local function give(id, gift, now)
  local last = gift.expires
  if gift.refresh then
    local name = 'refresh:' .. gift.refresh.digest
    call('HSET', key(name), 'auth', id, 'expires', gift.refresh.expires)
    live(name, gift.refresh.expires - now)
    last = math.max(last, gift.refresh.expires)
  end
  if gift.access then put_access(gift.access, now) end
  local own = call('HMGET', key('auth:' .. id), 'expires', 'code', 'subject', 'client')
  if last > tonumber(own[1]) then
    call('HSET', key('auth:' .. id), 'expires', last)
    live('auth:' .. id, last - now)
    -- Used codes stay with their authorization: a second use must be known for what it is.
    if own[2] then live('code:' .. own[2], last - now) end
    local all = 'auths:' .. own[3] .. ' ' .. own[4]
    call('ZADD', key(all), last, id)
    if call('TTL', key(all)) < last - now + SLACK then live(all, last - now) end
  end
end

local function put_authorization(auth, now)
  local name = 'auth:' .. auth.id
  call('HSET', key(name), 'client', auth.client, 'subject', auth.subject, 'scopes', auth.scopes, 'made', now, 'expires', auth.expires)
  if auth.resource then call('HSET', key(name), 'resource', auth.resource) end
  live(name, auth.expires - now)
  local all = 'auths:' .. auth.subject .. ' ' .. auth.client
  call('ZREMRANGEBYSCORE', key(all), '-inf', '(' .. now)
  call('ZADD', key(all), auth.expires, auth.id)
  if call('TTL', key(all)) < auth.expires - now + SLACK then live(all, auth.expires - now) end
end

local operations = {}

function operations.issue_code(now, auth, code)
  now, auth, code = tonumber(now), cjson.decode(auth), cjson.decode(code)
  put_authorization(auth, now)
  call('HSET', key('auth:' .. auth.id), 'code', code.digest)
  local name = 'code:' .. code.digest
  call('HSET', key(name), 'auth', auth.id, 'expires', code.expires)
  if code.redirect then call('HSET', key(name), 'redirect', code.redirect) end
  if code.challenge then call('HSET', key(name), 'challenge', code.challenge) end
  live(name, auth.expires - now)
  return 'done'
end

-- A code: its authorization's id and five facts, redirect, challenge, expires, used; nothing if there is none.
function operations.code(digest)
  local code = call('HMGET', key('code:' .. digest), 'auth', 'redirect', 'challenge', 'expires', 'used')
  local auth = code[1] and authorization(code[1])
  if not auth then return {} end
  return { code[1], auth[1], auth[2], auth[3], auth[4] or '', code[2] or '', code[3] or '', code[4], code[5] or '' }
end

function operations.redeem(digest, now, gift, event)
  local used = call('HMGET', key('code:' .. digest), 'auth', 'used')
  if not used[1] or not authorization(used[1]) then return 'unknown' end
  if used[2] then
    finish(used[1], cjson.decode(event))
    return 'reused'
  end
  call('HSET', key('code:' .. digest), 'used', now)
  give(used[1], cjson.decode(gift), tonumber(now))
  return 'done'
end

function operations.authorize(now, auth, gift)
  auth = cjson.decode(auth)
  put_authorization(auth, tonumber(now))
  give(auth.id, cjson.decode(gift), tonumber(now))
  return 'done'
end

-- Ends an authorization, if it is still there.
function operations.finish(id, event)
  if call('EXISTS', key('auth:' .. id)) == 0 then return 'unknown' end
  finish(id, cjson.decode(event))
  return 'done'
end

function operations.disconnect(user, client, event)
  event = cjson.decode(event)
  for _, field in ipairs(call('HKEYS', key('consent:' .. user))) do
    if string.sub(field, 1, #client + 1) == client .. ' ' then call('HDEL', key('consent:' .. user), field) end
  end
  local ended = {}
  local all = key('auths:' .. user .. ' ' .. client)
  for _, id in ipairs(call('ZRANGE', all, 0, -1)) do
    if call('EXISTS', key('auth:' .. id)) == 1 then
      finish(id, event)
      table.insert(ended, id)
    end
  end
  call('DEL', all)
  return ended
end

-- A refresh token: its authorization's id and facts, expires, used, successor.
function operations.refresh(digest)
  local token = call('HMGET', key('refresh:' .. digest), 'auth', 'expires', 'used', 'successor')
  local auth = token[1] and authorization(token[1])
  if not auth then return {} end
  return { token[1], auth[1], auth[2], auth[3], auth[4] or '', token[2], token[3] or '', token[4] or '' }
end

-- First use: the token gives way to its successor.
function operations.rotate(digest, now, successor, gift)
  local token = call('HMGET', key('refresh:' .. digest), 'auth', 'used', 'expires')
  if not token[1] or not authorization(token[1]) then return 'unknown' end
  if token[2] then return 'changed' end
  call('HSET', key('refresh:' .. digest), 'used', now, 'successor', successor)
  give(token[1], cjson.decode(gift), tonumber(now))
  return 'done'
end

-- Another answer for a token used a moment ago, as long as its successor has not been used.
function operations.again(digest, successor, now, gift)
  local id = call('HGET', key('refresh:' .. digest), 'auth')
  if not id or not authorization(id) then return 'unknown' end
  local next = call('HMGET', key('refresh:' .. successor), 'auth', 'used')
  if not next[1] or next[2] then return 'changed' end
  give(id, cjson.decode(gift), tonumber(now))
  return 'done'
end

function operations.put_access(now, access)
  put_access(cjson.decode(access), tonumber(now))
  return 'done'
end

-- An opaque token, unless what it hangs on is dead.
function operations.access(digest)
  local found = call('HMGET', key('access:' .. digest), 'id', 'auth', 'client', 'subject', 'scopes', 'audience', 'issued', 'expires')
  if not found[1] then return {} end
  if found[2] and not authorization(found[2]) then return {} end
  if dead(found[7], found[3], found[4]) then return {} end
  for at = 1, 8 do found[at] = found[at] or '' end
  return found
end

function operations.revoke(kind, value, event)
  event = cjson.decode(event)
  local own = event.issuer == 'self'
  if own and kind == 'token' then
    local digest = call('GET', key('access_id:' .. value))
    if digest then call('DEL', key('access:' .. digest), key('access_id:' .. value)) end
  elseif own and kind == 'authorization' then
    call('DEL', key('auth:' .. value))
  elseif own then
    local name = kind == 'everything' and 'until:all' or ('until:' .. kind .. ':' .. value)
    local before = call('GET', key(name))
    if not before or tonumber(before) < event.at then call('SET', key(name), event.at) end
    live(name, event.expires - event.now)
  end
  return note(kind, value, event)
end

-- Word that blocks have changed is kept for a day, which is longer than anybody reads behind.
local function note_blocks(now)
  return note('blocks', '', { at = now, expires = tonumber(now) + 86400, issuer = 'self' })
end

function operations.block(field, value, now)
  call('HSET', key('blocks'), field, value)
  return note_blocks(now)
end

function operations.unblock(field, now)
  local removed = call('HDEL', key('blocks'), field)
  note_blocks(now)
  return removed
end

-- Word is that blocks have changed: whoever hears it reads attempts anew too.
function operations.clear_attempts(members, now)
  for _, member in ipairs(cjson.decode(members)) do call('ZREM', key('failures'), member) end
  return note_blocks(now)
end

-- made             users made at login: by name, what is known of each as JSON
-- made:removed     those that were locked when they were removed
local function put_made(name, user)
  call('HSET', key('made'), name, cjson.encode(user))
end

local function made(name)
  local found = call('HGET', key('made'), name)
  return found and cjson.decode(found)
end

-- Word that a user has changed is word of blocks that names one: no gateway may take it for a revocation.
local function note_made(name, now)
  note('blocks', name, { at = now, expires = tonumber(now) + 86400, issuer = 'self' })
  return 'done'
end

function operations.sign_in_made(name, user, most, now)
  local known = made(name)
  if call('HEXISTS', key('made:removed'), name) == 1 or (known and known.locked) then return { 'locked' } end
  if not known and call('HLEN', key('made')) >= tonumber(most) then return { 'full' } end
  user = cjson.decode(user)
  if known then user.made = known.made end
  put_made(name, user)
  note_made(name, now)
  return { known and 'known' or 'new', cjson.encode(user) }
end

function operations.lock_made(name, now, event)
  local user = made(name)
  if not user then return call('HEXISTS', key('made:removed'), name) == 1 and 'same' or 'unknown' end
  if user.locked then return 'same' end
  user.locked = true
  put_made(name, user)
  operations.revoke('user', name, event)
  return note_made(name, now)
end

function operations.unlock_made(name, now)
  if call('HDEL', key('made:removed'), name) == 1 then return note_made(name, now) end
  local user = made(name)
  if not user then return 'unknown' end
  if not user.locked then return 'same' end
  user.locked = false
  put_made(name, user)
  return note_made(name, now)
end

function operations.remove_made(name, now, event)
  local user = made(name)
  if not user then return 'unknown' end
  if user.locked then
    user.display, user.groups = nil, '[]'
    call('HSET', key('made:removed'), name, cjson.encode(user))
  end
  call('HDEL', key('made'), name)
  call('DEL', key('consent:' .. name))
  operations.revoke('user', name, event)
  return note_made(name, now)
end

function operations.made_user(name)
  for _, kept in ipairs({ 'made', 'made:removed' }) do
    local found = call('HGET', key(kept), name)
    if found then return { kept, found } end
  end
  return {}
end

-- In one go: a session without an end would stay for ever.
function operations.begin_session(digest, user, proof, now, expires)
  local name = 'session:' .. digest
  call('HSET', key(name), 'user', user, 'proof', proof, 'made', now, 'expires', expires)
  live(name, expires - now)
  return 'done'
end

function operations.session(digest)
  local found = call('HMGET', key('session:' .. digest), 'user', 'proof', 'made', 'expires')
  if not found[1] or dead(found[3], nil, found[1]) then return {} end
  return found
end

function operations.remember_consent(user, field, scopes, now)
  local before = call('HGET', key('consent:' .. user), field)
  local since, all = now, scopes
  if before then
    local made, known = string.match(before, '^(%S+) ?(.*)$')
    since = made
    local seen = {}
    for scope in string.gmatch(known, '%S+') do seen[scope] = true end
    all = known
    for scope in string.gmatch(scopes, '%S+') do
      if not seen[scope] then all = all == '' and scope or (all .. ' ' .. scope) end
    end
  end
  call('HSET', key('consent:' .. user), field, since .. ' ' .. all)
  return 'done'
end

function operations.secret_use(field, day)
  local before = call('HGET', key('secret_use'), field)
  if not before or tonumber(before) < tonumber(day) then call('HSET', key('secret_use'), field, day) end
  return 'done'
end

-- secret_networks:PERIOD  client, secret and a group of networks; kept for that time and the next
function operations.secret_network(member, period)
  call('SADD', key('secret_networks:' .. period), member)
  live('secret_networks:' .. period, 61 * 86400)
  return 'done'
end

-- What was used of limits. A rate is its theoretical arrival (GCRA) by this server's clock: the answer is how far that lies ahead,
-- in microseconds. A quota is a count: the answer is all of it.
function operations.draw(entries)
  local time = call('TIME')
  local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
  local answers = {}
  for _, entry in ipairs(cjson.decode(entries)) do
    if entry.each then
      local name = key('rate:' .. entry.key)
      local before = tonumber(call('GET', name) or '0')
      -- Told later than it happened: what was let through since fills the time since.
      local arrival = math.max(math.max(before, now - entry.ago) + entry.n * entry.each, now)
      if entry.n > 0 and arrival > now then
        call('SET', name, string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000) + 1000)
      end
      table.insert(answers, string.format('%.0f', arrival - now))
    else
      local name = key('quota:' .. entry.key)
      local used = entry.n > 0 and call('INCRBY', name, entry.n) or tonumber(call('GET', name) or '0')
      call('EXPIRE', name, entry.left + SLACK)
      table.insert(answers, tostring(used))
    end
  end
  return answers
end

-- 1 the first time, 0 ever after.
function operations.once(name, seconds)
  return call('SET', key(name), '1', 'NX', 'EX', seconds) and 1 or 0
end

function operations.gateways(id)
  local now = tonumber(call('TIME')[1])
  call('ZADD', key('gateways'), now, id)
  call('ZREMRANGEBYSCORE', key('gateways'), '-inf', now - 10)
  return call('ZCARD', key('gateways'))
end

-- Rows of an embedded store. What is known better here stays: what was used or ended is so for good. `moved` has what came before,
-- with its end: what should live still and is not there any more was ended here.
local taking = {}

-- Whether a row that is not there was ended here since it came.
local function ended(name, expires, now)
  local before = tonumber(call('HGET', key('moved'), name) or '0')
  call('HSET', key('moved'), name, expires or 9999999999)
  return before > now
end

function taking.revocation(row, now)
  local last = tonumber(call('GET', key('moved:revocation')) or '0')
  if row.rowid <= last then return end
  call('SET', key('moved:revocation'), row.rowid)
  if row.kind == 'blocks' then return end
  local event = { at = row.at, expires = row.expires_at, issuer = row.issuer, now = now }
  operations.revoke(row.kind, row.value, cjson.encode(event))
end

function taking.authorization(row, now)
  local name = 'auth:' .. row.id
  local known = call('EXISTS', key(name)) == 1
  if ended(name, row.expires_at, now) and not known then return end
  if not known then
    call('HSET', key(name), 'client', row.client, 'subject', row.subject, 'scopes', row.scopes, 'made', row.created_at, 'expires', row.expires_at)
    if row.resource then call('HSET', key(name), 'resource', row.resource) end
  end
  local expires = math.max(row.expires_at, tonumber(call('HGET', key(name), 'expires')))
  call('HSET', key(name), 'expires', expires)
  live(name, expires - now)
  local all = 'auths:' .. row.subject .. ' ' .. row.client
  call('ZADD', key(all), expires, row.id)
  if call('TTL', key(all)) < expires - now + SLACK then live(all, expires - now) end
end

local function take_part(name, row, now, fields)
  local expires = call('HGET', key('auth:' .. row.authorization_id), 'expires')
  if not expires then return false end
  call('HSETNX', key(name), 'auth', row.authorization_id)
  call('HSETNX', key(name), 'expires', row.expires_at)
  for to, from in pairs(fields) do
    if row[from] then call('HSETNX', key(name), to, row[from]) end
  end
  return tonumber(expires)
end

function taking.code(row, now)
  local expires = take_part('code:' .. row.digest, row, now, { redirect = 'redirect_uri', challenge = 'challenge', used = 'used_at' })
  if not expires then return end
  call('HSET', key('auth:' .. row.authorization_id), 'code', row.digest)
  live('code:' .. row.digest, expires - now)
end

function taking.refresh_token(row, now)
  if take_part('refresh:' .. row.digest, row, now, { used = 'used_at', successor = 'successor' }) then
    live('refresh:' .. row.digest, row.expires_at - now)
  end
end

function taking.access_token(row, now)
  if row.authorization_id and call('EXISTS', key('auth:' .. row.authorization_id)) == 0 then return end
  if call('EXISTS', key('access:' .. row.digest)) == 1 or ended('access:' .. row.id, row.expires_at, now) then return end
  put_access({ digest = row.digest, id = row.id, auth = row.authorization_id, client = row.client, subject = row.subject,
    scopes = row.scopes, audience = row.audience, issued = row.issued_at, expires = row.expires_at }, now)
end

function taking.session(row, now)
  local name = 'session:' .. row.digest
  if ended(name, row.expires_at, now) then return end
  call('HSET', key(name), 'user', row.user, 'proof', row.proof, 'made', row.created_at, 'expires', row.expires_at)
  live(name, row.expires_at - now)
end

function taking.consent(row, now)
  local field = row.client .. ' ' .. row.resource
  if ended('consent:' .. row.user .. ' ' .. field, nil, now) and call('HEXISTS', key('consent:' .. row.user), field) == 0 then return end
  operations.remember_consent(row.user, row.client .. ' ' .. row.resource, row.scopes, row.given_at)
end

function taking.assertion(row, now)
  call('SET', key('assertion:' .. row.id), '1', 'NX', 'EX', row.expires_at - now + SLACK)
end

function taking.secret_use(row)
  operations.secret_use(row.client .. ' ' .. row.secret, row.day)
end

function taking.failure(row)
  call('ZADD', key('failures'), row.expires_at, row.at .. ' moved' .. row.rowid .. ' ' .. row.subject)
end

function taking.block(row, now)
  if ended('block:' .. row.kind .. ' ' .. row.value .. ' ' .. row.since, row['until'], now) then return end
  local value = { since = row.since, reason = row.reason, ['until'] = row['until'] }
  if call('HSETNX', key('blocks'), row.kind .. ' ' .. row.value, cjson.encode(value)) == 1 then note_blocks(now) end
end

function taking.quota(row, now)
  call('SET', key('quota:' .. row.key), row.used, 'NX', 'EX', row.expires_at - now + SLACK)
end

function taking.made_user(row, now)
  local name, known = row.name, call('HEXISTS', key('made'), row.name) + call('HEXISTS', key('made:removed'), row.name) > 0
  if ended('made:' .. name, nil, now) or known then return end
  local user = { issuer = row.issuer, subject = row.subject, display = row.display_name, groups = row.role_values,
    locked = row.locked == 1, made = row.made_at, signed_in = row.signed_in_at }
  call('HSET', key(row.removed == 1 and 'made:removed' or 'made'), name, cjson.encode(user))
  note_made(name, now)
end

function operations.end_move()
  -- As long as anything that came may live.
  call('EXPIRE', key('moved'), 400 * 86400)
  return 'done'
end

function operations.take_rows(table, now, rows)
  now = tonumber(now)
  for _, row in ipairs(cjson.decode(rows)) do
    -- Used codes stay with their authorization, however old.
    if not row.expires_at or row.expires_at > now or table == 'code' then taking[table](row, now) end
  end
  return 'done'
end

-- Writes what was made of what is there now, or says that it has changed.
function operations.replace(name, before, after)
  if (call('GET', key(name)) or '') ~= before then return 'changed' end
  call('SET', key(name), after)
  return 'done'
end

-- usage:DAY        counters: client, API, operation and kind
-- usage:days       the days that have some
function operations.add_usage(rows, most)
  for _, row in ipairs(cjson.decode(rows)) do
    local day, field, counts, other = row[1], row[2], row[3], row[4]
    local name = key('usage:' .. day)
    if call('HEXISTS', name, field .. '\31' .. '1') + call('HEXISTS', name, field .. '\31' .. '2') == 0
      and call('HLEN', name) >= tonumber(most) then field = other end
    for kind, count in ipairs(counts) do
      if count > 0 then call('HINCRBY', name, field .. '\31' .. kind, string.format('%.0f', count)) end
    end
    call('ZADD', key('usage:days'), day, day)
  end
  return 'done'
end

function operations.forget_usage(before)
  for _, day in ipairs(call('ZRANGEBYSCORE', key('usage:days'), '-inf', '(' .. before)) do
    call('DEL', key('usage:' .. day))
    call('ZREM', key('usage:days'), day)
  end
  return 'done'
end

-- audit            lines, oldest first
-- audit:first      the number of the first one
local function audit(record, most)
  local length = call('RPUSH', key('audit'), record)
  if length == 1 then call('SETNX', key('audit:first'), 1) end
  if length > tonumber(most) then
    call('LPOP', key('audit'))
    call('INCR', key('audit:first'))
  end
end

function operations.note_audit(record, most)
  audit(record, most)
  return 'done'
end

local idle = { changed = true, unknown = true, same = true, locked = true, full = true, known = true }

-- An operation and the record of it: both or none. What found nothing to do is not recorded.
function operations.recorded(record, most, operation, ...)
  local done = operations[operation](...)
  local word = type(done) == 'table' and done[1] or done
  local is_idle = idle[word] or (operation == 'unblock' and done == 0)
  if not is_idle then audit(record, most) end
  return done
end

local function audit_range(from, to)
  local first = tonumber(call('GET', key('audit:first')) or 1)
  local found = {}
  from = math.max(from, first)
  if to < from then return found end
  for at, line in ipairs(call('LRANGE', key('audit'), string.format('%.0f', from - first), string.format('%.0f', to - first))) do
    table.insert(found, { from + at - 1, line })
  end
  return found
end

function operations.audit_after(after, limit)
  return audit_range(after + 1, after + limit)
end

function operations.audit_before(before, limit)
  local first = tonumber(call('GET', key('audit:first')) or 1)
  local last = math.min(before - 1, first + call('LLEN', key('audit')) - 1)
  local found, newest = audit_range(last - limit + 1, last), {}
  for at = #found, 1, -1 do table.insert(newest, found[at]) end
  return newest
end

-- Removes a slice of the events that have expired, failures, and blocks that have ended.
function operations.sweep(now, slice)
  call('ZREMRANGEBYSCORE', key('failures'), '-inf', '(' .. now)
  for _, field in ipairs(call('HKEYS', key('blocks'))) do
    local ends = cjson.decode(call('HGET', key('blocks'), field))['until']
    if type(ends) == 'number' and ends < tonumber(now) then call('HDEL', key('blocks'), field) end
  end
  local old = call('ZRANGEBYSCORE', key('events:expiry'), '-inf', '(' .. now, 'LIMIT', 0, slice)
  for _, number in ipairs(old) do call('XDEL', key('events'), number .. '-0') end
  if #old > 0 then call('ZREM', key('events:expiry'), unpack(old)) end
  return (#old == tonumber(slice)) and 1 or 0
end

return operations[ARGV[1]](unpack(ARGV, 2))
