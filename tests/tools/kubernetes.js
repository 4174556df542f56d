// Hold objects of Kubernetes, as JSON on stdin, against the schemas of
// kubernetes-models; print a line for each fault.
'use strict';

const asked = new Map();

// The same object, which remembers which of its fields are asked for.
function watch(object) {
	if (object === null || typeof object !== 'object')
		return object;
	for (const key of Object.keys(object))
		object[key] = watch(object[key]);
	if (Array.isArray(object))
		return object;
	const names = new Set();
	const watched = new Proxy(object, {
		get(target, key) {
			names.add(key);
			return Reflect.get(target, key);
		},
	});
	asked.set(watched, names);
	return watched;
}

// A schema asks for each field that it has; so the others are unknown.
function unknown(value, path) {
	if (value === null || typeof value !== 'object')
		return [];
	const names = asked.get(value);
	return Object.entries(value).flatMap(([key, inner]) =>
	    names !== undefined && !names.has(key) ?
	    [`${path}/${key}: unknown`] : unknown(inner, `${path}/${key}`));
}

// What unknown() itself asks for does not count.
function freeze() {
	for (const [object, names] of asked)
		asked.set(object, new Set(names));
}

for (const plain of JSON.parse(require('fs').readFileSync(0, 'utf8'))) {
	const name = `${plain.kind} ${plain.metadata.name}`;
	const Model = require('kubernetes-models/' + plain.apiVersion)[plain.kind];
	const object = watch(new Model(plain));
	try {
		object.validate();
	} catch (error) {
		console.log(`${name}: ${error.message}`);
	}
	freeze();
	for (const fault of unknown(object, ''))
		console.log(`${name}: ${fault}`);
}
