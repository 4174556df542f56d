/* client.js OPTIONS PORT: memcached of npm, driven from outside.
 *
 * Each line of input is the name of a method and its arguments, as JSON.
 * Printed on one line are the error and the value that its callback gets.
 * NODE_PATH says where the package is; OPTIONS is JSON. */
'use strict';

const Memcached = require('memcached');
const readline = require('readline');

const client = new Memcached('127.0.0.1:' + process.argv[3],
	JSON.parse(process.argv[2]));
readline.createInterface({ input: process.stdin }).on('line', (line) => {
	const [method, ...args] = JSON.parse(line);
	client[method](...args, (error, value) => {
		const text = error ? String(error.message || error) : null;
		process.stdout.write(JSON.stringify([text, value]) + '\n');
	});
});
