# Is put after the lists of libpcap's testprogs/TESTrun, in place of what runs them:
# prints each test as a line of JSON.
use JSON::PP;
my $json = JSON::PP->new->canonical->latin1;
foreach my $t (@ready_to_run) {
	my $f = delete $t->{func};
	$t->{kind} = $f == \&run_filter_accept_test ? 'accept' : $f == \&run_filter_apply_test ? 'apply' :
		$f == \&run_filter_reject_test ? 'reject' : $f == \&run_skip_test ? 'skip' : 'other';
	print $json->encode($t), "\n";
}
# Or, when asked, what the names in the tests have to resolve to.
if ($ENV{FILTERTEST_NAMES}) {
	foreach my $list (['hosts', @hosts_lines], ['ethers', @ethers_lines], ['networks', @networks_lines]) {
		my ($file, @lines) = @$list;
		open my $out, '>>', "$ENV{FILTERTEST_NAMES}/$file" or die;
		print $out "$_\n" foreach @lines;
		close $out;
	}
}
