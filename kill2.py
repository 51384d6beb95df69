import sys, os, time, functools
rank=int(sys.argv[1]); port=sys.argv[2]; hb=int(sys.argv[3])
os.environ["XLA_FLAGS"]="--xla_force_host_platform_device_count=2"
import jax, numpy as np
from jax._src.lib import _jax
jax.config.update("jax_cpu_collectives_implementation","gloo")
def gone(status):
    os.write(2, b"CLEAR LINE %s\n" % str(status)[:80].encode())
    os._exit(1)
orig=_jax.get_distributed_runtime_client
_jax.get_distributed_runtime_client=functools.partial(orig,missed_heartbeat_callback=gone)
jax.distributed.initialize(f"127.0.0.1:{port}",2,rank,heartbeat_timeout_seconds=hb)
import jax.numpy as jnp
mesh=jax.sharding.Mesh(np.array(jax.devices()),("b",))
sh=jax.sharding.NamedSharding(mesh,jax.sharding.PartitionSpec("b"))
f=jax.jit(lambda x: x.sum())
t0=time.time()
try:
  for i in range(100000):
    x=jax.make_array_from_process_local_data(sh,np.ones((4,),np.float32))
    y=float(f(x))
    time.sleep(0.05)
    if time.time()-t0>3 and rank==int(sys.argv[4]): 
        print("dying",time.time(),flush=True); os.kill(os.getpid(),9)
except BaseException as e:
    print(rank,"caught",time.time(),type(e),str(e)[:100],flush=True)
    time.sleep(20)
    print(rank,"still alive",flush=True)
    os._exit(3)
