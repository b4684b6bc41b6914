typedef unsigned short u16; typedef unsigned int u32;
__device__ __forceinline__ u32 smem_address(const void* p){u32 a;asm("{ .reg .u64 t; cvta.to.shared.u64 t, %1; cvt.u32.u64 %0, t; }":"=r"(a):"l"(p));return a;}
// y[M,N] = x[M,K] w[N,K]^T, bf16 in, f32 out, K, M, N multiples of 32; one warp computes 16x8 tiles; block 64x32 of 8 warps
extern "C" __global__ void __launch_bounds__(256) gemm_bf16(const u16* x,const u16* w,float* y,int M,int N,int K){
  __shared__ __align__(16) u16 xs[2][64*32]; __shared__ __align__(16) u16 ws[2][32*32];
  int t=threadIdx.x, lane=t&31, warp=t>>5, m0=blockIdx.y*64, n0=blockIdx.x*32;
  int wm=(warp&3)*16, wn=(warp>>2)*16;
  float acc[2][4]={};
  auto load=[&](int stage,int k0){
    int r=t>>2,c=(t&3)*8;
    { const u16* src=x+(long long)min(m0+r,M-1)*K+k0+c; int n=m0+r<M?16:0;
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"::"r"(smem_address(&xs[stage][r*32+((c/8)^((r>>1)&3))*8])),"l"(src),"r"(n)); }
    if(t<128){ asm volatile("cp.async.cg.shared.global [%0], [%1], 16;"::"r"(smem_address(&ws[stage][r*32+((c/8)^((r>>1)&3))*8])),"l"(w+(long long)(n0+r)*K+k0+c)); }
    asm volatile("cp.async.commit_group;");
  };
  load(0,0);
  for(int k0=0,s=0;k0<K;k0+=32,s^=1){
    if(k0+32<K){load(s^1,k0+32);asm volatile("cp.async.wait_group 1;":::"memory");}else asm volatile("cp.async.wait_group 0;":::"memory");
    __syncthreads();
    #pragma unroll
    for(int kk=0;kk<32;kk+=16){
      u32 a[4],b[4];
      {int r=wm+(lane&15),c=kk/8+(lane>>4);
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];":"=r"(a[0]),"=r"(a[1]),"=r"(a[2]),"=r"(a[3]):"r"(smem_address(&xs[s][r*32+(c^((r>>1)&3))*8])));}
      {int r=wn+(lane&7)+((lane>>4)<<3),c=kk/8+((lane>>3)&1);
      asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3},[%4];":"=r"(b[0]),"=r"(b[1]),"=r"(b[2]),"=r"(b[3]):"r"(smem_address(&ws[s][r*32+(c^((r>>1)&3))*8])));}
      #pragma unroll
      for(int j=0;j<2;j++) asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3},{%4,%5,%6,%7},{%8,%9},{%0,%1,%2,%3};":"+f"(acc[j][0]),"+f"(acc[j][1]),"+f"(acc[j][2]),"+f"(acc[j][3]):"r"(a[0]),"r"(a[1]),"r"(a[2]),"r"(a[3]),"r"(b[2*j]),"r"(b[2*j+1]));
    }
    __syncthreads();
  }
  for(int j=0;j<2;j++)for(int h=0;h<2;h++){int r=m0+wm+(lane>>2)+8*h,c=n0+wn+8*j+(lane&3)*2; if(r<M)*(float2*)(y+(long long)r*N+c)=make_float2(acc[j][2*h],acc[j][2*h+1]);}
}
// one row a block
extern "C" __global__ void __launch_bounds__(128) rms_norm(const float* x,const float* w,float* y,float* rstd,int D,float eps){
  __shared__ float part[4];
  const float* r=x+(long long)blockIdx.x*D; float s=0;
  for(int i=threadIdx.x;i<D;i+=128)s=fmaf(r[i],r[i],s);
  for(int o=16;o;o>>=1)s+=__shfl_xor_sync(~0u,s,o);
  if((threadIdx.x&31)==0)part[threadIdx.x>>5]=s;
  __syncthreads();
  float q=1.0f/sqrtf((part[0]+part[1]+part[2]+part[3])/D+eps);
  for(int i=threadIdx.x;i<D;i+=128)y[(long long)blockIdx.x*D+i]=r[i]*q*w[i];
  if(threadIdx.x==0)rstd[blockIdx.x]=q;
}
extern "C" __global__ void silu(const u16* x,u16* y,long long n){
  long long i=(long long)blockIdx.x*blockDim.x+threadIdx.x; if(i>=n)return;
  float v=__uint_as_float((u32)x[i]<<16); float r=v/(1.0f+expf(-v));
  u16 h; asm("cvt.rn.bf16.f32 %0, %1;":"=h"(h):"f"(r)); y[i]=h;
}
extern "C" __global__ void softmax(const float* x,float* y,int n){
  extern __shared__ float row[]; __shared__ float red[2][8];
  float m=-1e30f; for(int i=threadIdx.x;i<n;i+=blockDim.x){float v=x[(long long)blockIdx.x*n+i];row[i]=v;m=fmaxf(m,v);}
  for(int o=16;o;o>>=1)m=fmaxf(m,__shfl_down_sync(~0u,m,o));
  if(threadIdx.x%32==0)red[0][threadIdx.x/32]=m; __syncthreads();
  m=red[0][0];for(int k=1;k<blockDim.x/32;k++)m=fmaxf(m,red[0][k]);
  float s=0;for(int i=threadIdx.x;i<n;i+=blockDim.x){float e=expf(row[i]-m);row[i]=e;s+=e;}
  for(int o=16;o;o>>=1)s+=__shfl_xor_sync(~0u,s,o);
  if(threadIdx.x%32==0)red[1][threadIdx.x/32]=s; __syncthreads();
  s=0;for(int k=0;k<blockDim.x/32;k++)s+=red[1][k];
  for(int i=threadIdx.x;i<n;i+=blockDim.x)y[(long long)blockIdx.x*n+i]=row[i]/s;
}
