# client.pl MODULE PORT: Cache::Memcached or ::Fast, driven from outside.
#
# Each line of input is Perl code with $c, a client of that port of 127.0.0.1.
# Its value, and the warnings that came with it, are printed on one line.
use strict;
use warnings;
use JSON::PP;

my ($module, $port) = @ARGV;
eval "require $module" or die $@;
# The long timeouts are for a busy machine; nowait is for void context.
my $c = $module->new({
	servers => ["127.0.0.1:$port"], nowait => 1, connect_timeout => 10,
	select_timeout => 10, io_timeout => 10, compress_threshold => 1000,
	max_size => 4e6});
my $json = JSON::PP->new->canonical->allow_nonref->ascii;
my %kept;
my @warnings;
$SIG{__WARN__} = sub { push @warnings, @_ };

$| = 1;
while (my $line = <STDIN>) {
	my $value = eval $line;
	die $@ if $@;
	print $json->encode([$value, splice @warnings]), "\n";
}
