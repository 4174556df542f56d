<?php
/* memcache.php PORT: pecl memcache, driven from outside.
 *
 * Each line of input is an expression in $c, a client of that port of
 * 127.0.0.1 as this extension makes it when nothing else is said.  Its value
 * is printed on one line. */

error_reporting(0);
$c = new Memcache;
$c->addServer('127.0.0.1', (int) $argv[1]);
while (($line = fgets(STDIN)) !== false)
	fwrite(STDOUT, json_encode(eval("return $line;")) . "\n");
