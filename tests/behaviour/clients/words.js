/* words.js PACKAGE PORT: memcached or memcache-client of npm, driven as
 * test_clients_restart.py says.  NODE_PATH says where the package is. */
'use strict';

const readline = require('readline');

const [name, port] = process.argv.slice(2);
const seconds = 1000;

/* Calls a method of a client with a callback: what that gets. */
function called(client, method, ...args) {
	return new Promise((resolve, reject) => client[method](...args,
	    (error, value) => error ? reject(error) : resolve(value)));
}

function ofMemcached() {
	const Memcached = require('memcached');
	const client = new Memcached('127.0.0.1:' + port);
	return {
		set: (key, value) => called(client, 'set', key, value, 0),
		add: (key, value) => called(client, 'add', key, value, 0),
		append: (key, value) => called(client, 'append', key, value),
		get: (key) => called(client, 'get', key),
		many: async (...keys) => {
			const found = await called(client, 'getMulti', keys);
			return keys.map((key) => found[key] ?? '-').join(' ');
		},
		delete: (key) => called(client, 'del', key),
		incr: async (key, n) => {
			const value = await called(client, 'incr', key, +n);
			return value === false ? undefined : value;
		},
		touch: (key, time) => called(client, 'touch', key, +time),
	};
}

function ofMemcacheClient() {
	const { MemcacheClient } = require('memcache-client');
	const client = new MemcacheClient({
		server: '127.0.0.1:' + port,
		cmdTimeout: 20 * seconds,
	});
	const done = async (promise) => {
		await promise;
		return true;
	};
	return {
		set: (key, value) => done(client.set(key, value)),
		add: (key, value) => done(client.add(key, value)),
		append: (key, value) => done(client.append(key, value)),
		get: async (key) => (await client.get(key))?.value,
		many: async (...keys) => {
			const found = await client.get(keys);
			return keys.map((key) => found[key]?.value ?? '-')
			    .join(' ');
		},
		delete: (key) => done(client.delete(key)),
		incr: async (key, n) => {
			try {
				return await client.incr(key, +n);
			} catch (error) {
				if (String(error.message) === 'NOT_FOUND')
					return undefined;
				throw error;
			}
		},
		touch: (key, time) => done(client.touch(key, +time)),
	};
}

/* These are answers, and no errors. */
const noes = ['NOT_STORED', 'NOT_FOUND', 'Item is not stored'];

function said(value) {
	if (value === true || value === false)
		return value ? 'yes' : 'no';
	return value === undefined || value === null ? '-' : String(value);
}

const library = name === 'memcached' ? ofMemcached() : ofMemcacheClient();
readline.createInterface({ input: process.stdin }).on('line', async (line) => {
	const [method, ...args] = line.split(' ');
	let answer;
	try {
		answer = said(await library[method](...args));
	} catch (error) {
		const text = String(error.message || error);
		answer = noes.includes(text) ? 'no' : 'error: ' + text;
	}
	process.stdout.write(answer + '\n');
});
