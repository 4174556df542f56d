<?php
/* client.php PORT: php-memcached, driven from outside.
 *
 * Each line of input is an expression in $c, a client of that port of
 * 127.0.0.1.  Printed on one line are its value, the client's result message
 * and the warnings that PHP gave. */

$c = new Memcached;
$c->addServer('127.0.0.1', (int) $argv[1]);
$kept = [];
$warnings = [];
set_error_handler(function ($level, $text) use (&$warnings) {
	$warnings[] = $text;
});

while (($line = fgets(STDIN)) !== false) {
	$value = eval("return $line;");
	$outcome = [$value, $c->getResultMessage(), ...$warnings];
	$warnings = [];
	fwrite(STDOUT, json_encode($outcome, JSON_THROW_ON_ERROR |
	    JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE |
	    JSON_PRESERVE_ZERO_FRACTION) . "\n");
}
