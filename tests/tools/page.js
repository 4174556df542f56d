// Open a page in a browser without a screen, and do what is asked of it.
//
// node page.js URL WIDTH HEIGHT light|dark
//
// A line of JSON on stdin is what to do, a list of a name of deeds and its
// arguments; a line of JSON on stdout is what comes of it.
'use strict';

const readline = require('readline');
const { chromium } = require('playwright-core');

const [url, width, height, scheme] = process.argv.slice(2);
const PATIENCE = 60000;

// What nobody should see: errors, and requests to anybody else.
const faults = [];

function watch(page) {
	page.on('console', message => {
		if (['error', 'warning'].includes(message.type()))
			faults.push(`${message.type()}: ${message.text()}`);
	});
	page.on('pageerror', error => faults.push(`thrown: ${error.message}`));
	page.on('request', request => {
		if (!request.url().startsWith(url))
			faults.push(`asked for ${request.url()}`);
	});
}

const deeds = page => ({
	text: selector => page.locator(selector).first().innerText(),
	texts: selector => page.locator(selector).allInnerTexts(),
	attribute: (selector, name) =>
		page.locator(selector).first().getAttribute(name),
	wait: (selector, text) => page.waitForFunction(
	    ([where, pattern]) => {
		const found = document.querySelector(where);
		return found !== null &&
		    new RegExp(pattern).test(found.innerText);
	    }, [selector, text], { polling: 50, timeout: PATIENCE })
	    .then(() => true),
	press: key => page.keyboard.press(key).then(() => true),
	click: selector => page.click(selector).then(() => true),
	focused: () => page.evaluate(() => {
		const found = document.activeElement;
		return found.id || found.innerText ||
		    found.getAttribute('aria-label') || found.tagName;
	}),
	// How many pixels the page is wider than the window.
	overflow: () => page.evaluate(() =>
		document.documentElement.scrollWidth - window.innerWidth),
	// Elements that are images to a reader, and have no words.
	wordless: () => page.evaluate(() =>
		[...document.querySelectorAll('svg, [role=img], progress')]
		    .filter(one => !one.getAttribute('aria-label'))
		    .map(one => one.outerHTML.slice(0, 80))),
	style: (selector, name) => page.evaluate(([where, what]) =>
		getComputedStyle(document.querySelector(where))
		    .getPropertyValue(what), [selector, name]),
	resize: (w, h) => page.setViewportSize({ width: w, height: h })
	    .then(() => true),
	scheme: name => page.emulateMedia({ colorScheme: name })
	    .then(() => true),
	picture: path => page.screenshot({ path, fullPage: true })
	    .then(() => true),
	faults: () => faults.splice(0),
});

async function main() {
	const browser = await chromium.launch({
		executablePath: '/usr/bin/chromium',
		args: ['--no-sandbox', '--disable-gpu'],
	});
	const page = await browser.newPage({
		viewport: { width: +width, height: +height },
		colorScheme: scheme,
	});
	watch(page);
	await page.goto(url);
	const can = deeds(page);
	console.log(JSON.stringify('open'));
	for await (const line of readline.createInterface(process.stdin)) {
		const [name, ...rest] = JSON.parse(line);
		try {
			console.log(JSON.stringify(
			    { said: await can[name](...rest) }));
		} catch (error) {
			console.log(JSON.stringify({ error: error.message }));
		}
	}
	await browser.close();
}

main().catch(error => {
	console.error(error.message);
	process.exit(1);
});
